"""Results of every shape that a file may hold, for property tests."""

from datetime import UTC
from typing import get_args

from hypothesis import strategies as st

from evit_edge.converters.artifact import Precision
from evit_edge.device_bench.device import DeviceInfo
from evit_edge.device_bench.record import Conditions, Energy, Failure, Memory, Placement, Sustained, Timing
from evit_edge.device_bench.result import Parity, Result, Trial

counts = st.integers(min_value=1, max_value=10**6)
nanoseconds = st.integers(min_value=0, max_value=10**15)
finite = st.floats(allow_nan=False, allow_infinity=False)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
moments = st.datetimes(timezones=st.just(UTC))

shares = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
conditions = st.builds(
    Conditions,
    load_average=st.none() | finite,
    frequency_mhz=st.none() | finite,
    temperature_c=st.none() | finite,
    throttled=st.none() | counts,
    stolen_s=st.none() | finite,
    probe_ns=st.none() | nanoseconds,
)
timings = st.builds(
    Timing,
    inputs=st.sampled_from(["images", "noise"]),
    input_dtypes=st.lists(st.text(), max_size=2).map(tuple),
    inputs_sha256=st.none() | digests,
    cores=st.none() | st.lists(counts, max_size=3).map(tuple),
    before=st.none() | conditions,
    after=st.none() | conditions,
    load_ns=nanoseconds,
    first_ns=nanoseconds,
    warm_up_ns=st.lists(nanoseconds, max_size=5).map(tuple),
    warm_up_converged=st.booleans(),
    block=counts,
    samples_ns=st.lists(counts, min_size=1, max_size=5).map(tuple),
    placement=st.none()
    | st.builds(
        Placement,
        delegate=st.none() | st.text(),
        nodes_taken=nanoseconds,
        nodes=nanoseconds,
        partitions=nanoseconds,
    ),
)
devices = st.builds(
    DeviceInfo,
    device=st.text(),
    cpu=st.text(),
    logical_cpus=counts,
    memory_bytes=nanoseconds,
    os=st.text(),
    kernel=st.text(),
    python=st.text(),
    governor=st.none() | st.text(),
    frequency_mhz=st.none() | finite,
    virtualised=st.none() | st.booleans(),
    load_average=st.none() | st.tuples(finite, finite, finite),
    versions=st.dictionaries(st.text(), st.text(), max_size=3),
)
results = st.builds(
    Result,
    session=st.text(),
    started=moments,
    command=st.lists(st.text(), max_size=3).map(tuple),
    seed=st.integers(min_value=-(2**63), max_value=2**63),
    effort=st.text(),
    device=devices,
    model=st.text(),
    weights=st.text(),
    model_digest=digests,
    target=st.none() | st.text(),
    precision=st.sampled_from(get_args(Precision)),
    artifact_digest=st.none() | digests,
    size_bytes=st.none() | nanoseconds,
    parity=st.none() | st.builds(Parity, engine=st.text(), passed=st.booleans(), cosine=finite, top1=finite),
    runtime=st.text(),
    threads=counts,
    batch=counts,
    artifact_path=st.none() | st.text(),
    trials=st.lists(
        st.builds(Trial, round=nanoseconds, order=nanoseconds, seconds=st.none() | shares, timing=timings), max_size=3
    ).map(tuple),
    energy=st.none()
    | st.builds(
        Energy,
        source=st.text(),
        inferences=counts,
        joules=st.lists(shares, min_size=1, max_size=3).map(tuple),
        idle_watts=shares,
    ),
    sustained=st.none()
    | st.builds(
        Sustained,
        window_s=st.floats(0.1, 100),
        medians_ns=st.lists(shares, min_size=1, max_size=3).map(tuple),
        calls=st.lists(counts, max_size=3).map(tuple),
        temperatures_c=st.lists(st.none() | finite, max_size=3).map(tuple),
    ),
    memory=st.none() | st.builds(Memory, before_bytes=nanoseconds, peak_bytes=nanoseconds),
    failure=st.none() | st.builds(Failure, kind=st.text(), message=st.text(), hint=st.text()),
)

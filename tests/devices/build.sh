#!/bin/sh
# Builds an aarch64 Debian with Python and the engines in the folder $1, without root and without emulation:
# packages are only extracted, and wheels are only unpacked. It is there whole or not at all.
set -eu
root=$1
python=${2:-python3}
[ -e "$root/opt/evit" ] && exit 0
part=$root.part
rm -rf "$part"
mkdir -p "$(dirname "$root")"
mmdebstrap --quiet --variant=extract --architectures=arm64 --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --include='?essential' --include=python3,procps,ca-certificates,libstdc++6,libatomic1 bookworm "$part"
# No maintainer script ran: these are what they would have made.
echo 'root:x:0:0:root:/root:/bin/sh' > "$part/etc/passwd"
echo 'root:x:0:' > "$part/etc/group"
mkdir -p "$part/root" "$part/opt/fake"
# Under an emulator /proc/cpuinfo is the host's, with which the engines crash.
for cpu in 0 1; do
  printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n' $cpu
done > "$part/opt/fake/cpuinfo"
# Without these ONNX Runtime aborts while it is imported; a real kernel has them.
cpus=$part/sys/devices/system/cpu
mkdir -p "$part/sys/class/thermal/thermal_zone0"
echo 61234 > "$part/sys/class/thermal/thermal_zone0/temp"
for cpu in 0 1; do
  mkdir -p "$cpus/cpu$cpu/cpufreq" "$cpus/cpu$cpu/topology"
  echo ondemand > "$cpus/cpu$cpu/cpufreq/scaling_governor"
  echo 1500000 > "$cpus/cpu$cpu/cpufreq/scaling_cur_freq"
  echo 2400000 > "$cpus/cpu$cpu/cpufreq/cpuinfo_max_freq"
  echo $cpu > "$cpus/cpu$cpu/topology/core_id"
  echo 0 > "$cpus/cpu$cpu/topology/physical_package_id"
done
for file in possible present online; do echo 0-1 > "$cpus/$file"; done
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --target "$part/opt/evit" \
  --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_34_aarch64 \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
  --platform manylinux_2_17_aarch64 --platform any \
  numpy==1.26.4 onnxruntime==1.23.0 ai-edge-litert==2.1.0 tflite-runtime==2.14.0 \
  flatbuffers protobuf tqdm typing-extensions backports-strenum ml-dtypes
mv "$part" "$root"

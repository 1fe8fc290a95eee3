"""A benchmark_model that computes: `python computing.py --flag=value …`, by LiteRT, and prints what `says` holds.

As the tool does: input files by --input_layer_value_files, the bytes of all outputs to --output_filepath.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(flags: dict[str, str], says: Path) -> None:
    """Run the model once, if outputs are asked for."""
    if "output_filepath" in flags:
        interpreter = Interpreter(flags["graph"])
        names = flags["input_layer"].split(",")
        shapes = [[int(size) for size in shape.split(",")] for shape in flags["input_layer_shape"].split(":")]
        files = dict(pair.rsplit(":", 1) for pair in flags["input_layer_value_files"].split(","))
        details = interpreter.get_input_details()
        for each, shape in zip(details, shapes, strict=True):
            interpreter.resize_tensor_input(each["index"], shape)
        interpreter.allocate_tensors()
        for name, each, shape in zip(names, details, shapes, strict=True):
            values = np.fromfile(files[name.replace(":", "::")], each["dtype"]).reshape(shape)
            interpreter.set_tensor(each["index"], values)
        interpreter.invoke()
        answers = [interpreter.get_tensor(each["index"]).tobytes() for each in interpreter.get_output_details()]
        Path(flags["output_filepath"]).write_bytes(b"".join(answers))
    print(says.read_text())


if __name__ == "__main__":
    main(dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[2:]), Path(sys.argv[1]))

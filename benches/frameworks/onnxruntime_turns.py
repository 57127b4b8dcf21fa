"""ONNX Runtime's turns, inference alone: a session for the batch's size, whose input and output stay where they are."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import turns


def model(net, batch):
    nodes, weights, last = [], [], "x"
    for i, (kernel, bias) in enumerate(net.layers):
        weights += [numpy_helper.from_array(kernel, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"z{i}"]))
        last = f"z{i}"
        if i + 1 < len(net.layers):
            nodes.append(helper.make_node("Relu", [last], [f"a{i}"]))
            last = f"a{i}"
    nodes.append(helper.make_node("LogSoftmax", [last], ["y"], axis=1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, net.sizes[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, net.sizes[-1]])
    graph = helper.make_graph(nodes, net.name, [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def infer(net, x):
    options = ort.SessionOptions()
    options.intra_op_num_threads = turns.THREADS
    session = ort.InferenceSession(model(net, len(x)), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    y = ort.OrtValue.ortvalue_from_numpy(np.zeros((len(x), net.sizes[-1]), np.float32))
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", y)

    def run():
        session.run_with_iobinding(binding)
        return y

    return run


turns.serve(turns.versions(ort, onnx), infer=infer)

"""From models of other frameworks to ONNX: `zl.convert`. Each framework is an extra of its own."""

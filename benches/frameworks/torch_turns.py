"""PyTorch's turns, eager or with the setting compile: the fused Adam, and functions, which cost less than modules."""

import torch
import torch.nn.functional as F

import turns

torch.set_num_threads(turns.THREADS)


def tensors(net, trained):
    """Weights as `linear` wants them (outputs x inputs), and biases."""
    pairs = [(torch.tensor(kernel.T.copy()), torch.tensor(bias)) for kernel, bias in net.layers]
    return [(w.requires_grad_(trained), b.requires_grad_(trained)) for w, b in pairs]


def logits(layers, x):
    for w, b in layers[:-1]:
        x = F.relu_(F.linear(x, w, b))
    return F.linear(x, *layers[-1])


def logits_and_loss(layers, x, y):
    z = logits(layers, x)
    return z, F.cross_entropy(z, y)


def log_probabilities(layers, x):
    return F.log_softmax(logits(layers, x), 1)


if turns.SETTING == "compile":
    logits_and_loss = torch.compile(logits_and_loss, dynamic=False)
    log_probabilities = torch.compile(log_probabilities, dynamic=False)


def train(net, batch):
    x, labels = torch.from_numpy(net.x), torch.from_numpy(net.labels).long()
    layers = tensors(net, trained=True)
    optimizer = torch.optim.Adam([p for layer in layers for p in layer], lr=1e-3, eps=1e-7, fused=True)

    def epoch():
        total, hits = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for index in torch.randperm(len(x)).split(batch):
            y = labels.index_select(0, index)
            optimizer.zero_grad(set_to_none=True)
            z, loss = logits_and_loss(layers, x.index_select(0, index), y)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            hits += (z.detach().argmax(1) == y).sum()
        return total / len(x), hits / len(x)

    return epoch


def infer(net, x):
    x, layers = torch.from_numpy(x), tensors(net, trained=False)

    @torch.inference_mode()
    def run():
        return log_probabilities(layers, x)

    return run


turns.serve(turns.versions(torch), train, infer)

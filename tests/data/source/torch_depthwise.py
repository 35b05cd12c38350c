# input: 64x64x3
import torch.nn as nn

class DepthwiseSeparable(nn.Module):
    def __init__(self, nin, nout, stride=1, kernels_per_layer=1):
        super().__init__()
        self.depthwise = nn.Conv2d(nin, nin * kernels_per_layer, 3, stride, padding=1, groups=nin)
        self.pointwise = nn.Conv2d(nin * kernels_per_layer, nout, kernel_size=1)

    def forward(self, x):
        out = self.depthwise(x)
        out = self.pointwise(out)
        return out

model = nn.Sequential()
for i, (a, b) in enumerate(zip([3, 16, 32], [16, 32, 64])):
    model.add_module(f"block{i}", DepthwiseSeparable(a, b, 2, 2))
    model.add_module(f"act{i}", nn.ReLU6())

# input: 32x32x16
# model: block
from torch import nn

class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_ch, width, groups=8):
        super().__init__()
        out = width * self.expansion
        self.branch = nn.Sequential(
            nn.Conv2d(in_ch, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding="same", groups=groups, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out))
        self.shortcut = nn.Identity() if in_ch == out else nn.Conv2d(in_ch, out, 1)

    def forward(self, x):
        return nn.functional.relu(self.branch(x) + self.shortcut(x))

block = nn.Sequential(Bottleneck(16, 32), Bottleneck(128, 32))

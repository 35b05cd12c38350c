# input: 64x64x3
# model: FPN()
import torch.nn as nn
import torch.nn.functional as F

class FPN(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [16, 32, 64]
        self.stages = nn.ModuleList([
            nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1, padding_mode="reflect"), nn.SiLU())
            for i, o in zip([3] + widths[:-1], widths)
        ])
        self.laterals = nn.ModuleList(nn.Conv2d(w, 32, 1) for w in widths)
        self.smooth = nn.Conv2d(32, 32, 3, padding=1)

    def upsample_add(self, x, y):
        _, _, H, W = y.size()
        return F.interpolate(x, size=(H, W), mode='bilinear', align_corners=False) + y

    def forward(self, x):
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        laterals = [l(f) for l, f in zip(self.laterals, features)]
        p = laterals[-1]
        outs = [self.smooth(p)]
        for lateral in laterals[-2::-1]:
            p = self.upsample_add(p, lateral)
            outs.append(self.smooth(p))
        return outs

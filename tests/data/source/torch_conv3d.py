# input: 16x32x32x3
import torch.nn as nn

model = nn.Sequential(
    nn.Conv3d(3, 16, kernel_size=(3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)),
    nn.InstanceNorm3d(16, affine=True),
    nn.ELU(),
    nn.MaxPool3d(kernel_size=2),
    nn.Conv3d(16, 32, 3, padding=1),
    nn.AvgPool3d(2),
    nn.Dropout3d(),
    nn.ConvTranspose3d(32, 8, 2, stride=2, bias=False),
    nn.Flatten(2),
)

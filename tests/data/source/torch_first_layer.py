# input: 32x32x3
# model: nn.Conv2d(3, 64, kernel_size=3, padding=1)
nn.Conv2d(3, 64, kernel_size=3, padding=1)

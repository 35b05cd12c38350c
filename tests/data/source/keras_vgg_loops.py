from keras.models import Sequential
from keras.layers import *

config = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]

def vgg(config, classes=1000, size=64):
    net = Sequential(name="vgg")
    net.add(Input((size, size, 3)))
    for block, (depth, width) in enumerate(config, start=1):
        for i in range(depth):
            net.add(Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv{i + 1}"))
        net.add(MaxPooling2D(2, 2, name="block%d_pool" % block))
    net.add(Flatten())
    for units in 2 * [256]:
        net.add(Dense(units, activation="relu"))
    net.add(Dense(classes, activation="softmax", name="predictions"))
    return net

model = vgg(config)

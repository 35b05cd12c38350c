import keras
from keras import layers

def Conv(*args, **kwargs):
    kwargs.setdefault("padding", "same")
    return layers.Conv2D(*args, use_bias=False, **kwargs)

def compose(*funcs):
    def inner(x):
        for f in funcs:
            x = f(x)
        return x
    return inner

def darknet(*args, **kwargs):
    return compose(Conv(*args, **kwargs), layers.BatchNormalization(), layers.LeakyReLU(0.1))

options = {"strides": 2}
inputs = layers.Input(shape=(64, 64, 3))
x = darknet(16, 3)(inputs)
x = darknet(32, (3, 3), **options)(x)
act = lambda t: layers.Activation("swish")(t)
x = act(darknet(64, 3, **{"strides": (2, 2)})(x))
count = 0
while x.shape[1] > 4:
    x = darknet(64 + 16 * count, 3, **options)(x)
    count += 1
model = keras.Model(inputs, x)

import keras
from keras import layers

x = inputs = keras.Input(shape=(40, 40, 3))
x = layers.ZeroPadding2D(2)(x)
x = layers.Cropping2D(((1, 1), (2, 2)))(x)
x = layers.ZeroPadding2D()(x)
x = layers.Conv2D(8, (5, 3), strides=(2, 1), data_format="channels_last", groups=1)(x)
x = layers.Permute((2, 1, 3))(x)
x = layers.Resizing(20, 24)(x)
x = layers.Reshape((20 * 24, -1))(x)
x = layers.Cropping1D(4)(x)
x = layers.UpSampling1D(2)(x)
x = layers.AveragePooling1D(3, 2)(x)
a, b = layers.Dense(4)(x), layers.Dense(4)(x)
x = layers.Dot(axes=-1)([a, b])
model = keras.Model(inputs, layers.Flatten()(x))

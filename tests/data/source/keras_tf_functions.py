import tensorflow as tf
from tensorflow import keras

inputs = keras.Input((32, 32, 8))
a = keras.layers.Conv2D(8, 3, padding="same")(inputs)
b = keras.ops.relu(a)
c = keras.ops.concatenate([a, b], axis=-1)
d = c[:, ::2, ::2, :] - 1.0
e = keras.ops.mean(d, axis=[1, 2])
f = keras.ops.expand_dims(e, 1)
g = -keras.ops.squeeze(f, axis=1)
model = keras.Model(inputs, keras.layers.Dense(3)(g))

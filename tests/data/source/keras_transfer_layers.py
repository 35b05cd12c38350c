import keras
from keras import layers

base_model = keras.Sequential([
    layers.Input((64, 64, 3)),
    layers.Conv2D(16, 3, activation="relu", name="feature"),
    layers.MaxPooling2D(name="pool"),
], name="base")
base_model.trainable = False
full = keras.Model(base_model.inputs, base_model.get_layer("pool").output)
for layer in full.layers[:-1]:
    layer.trainable = False
inputs = keras.Input((64, 64, 3))
x = full(inputs, training=False)
x = layers.GlobalAveragePooling2D()(x)
model = keras.Model(inputs, layers.Dense(2)(x))

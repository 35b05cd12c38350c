import keras
from keras import layers

inputs = keras.Input((64, 64, 3), name="image")
features = inputs
for n in 16, 32:
    features = layers.SeparableConv2D(n, 3, padding="same", activation="relu")(features)
    features = layers.MaxPooling2D()(features)
features = layers.GlobalAveragePooling2D()(features)
box = layers.Dense(4, name="box")(features)
label = layers.Dense(10, activation="softmax", name="label")(features)
model = keras.Model(inputs, [box, label])

from keras import layers
import keras

model = keras.Sequential()
model.add(layers.Input(shape=(128, 9)))
for filters in (64, 64, 128):
    model.add(layers.Conv1D(filters, 3, padding="causal", dilation_rate=2, activation="relu"))
    model.add(layers.BatchNormalization())
    model.add(layers.MaxPooling1D(2))
model.add(layers.SeparableConv1D(32, 3, activation="relu"))
model.add(layers.GlobalMaxPooling1D())
model.add(layers.Dense(6, activation="softmax"))

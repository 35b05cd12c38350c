import keras
from keras.layers import Conv2D, MaxPooling2D, Input, concatenate, GlobalAveragePooling2D, Dense

def inception_module(x, f1, f3_in, f3, f5_in, f5, pool):
    tower_1 = Conv2D(f1, 1, padding="same", activation="relu")(x)
    tower_2 = Conv2D(f3_in, 1, padding="same", activation="relu")(x)
    tower_2 = Conv2D(f3, 3, padding="same", activation="relu")(tower_2)
    tower_3 = Conv2D(f5_in, 1, padding="same", activation="relu")(x)
    tower_3 = Conv2D(f5, 5, padding="same", activation="relu")(tower_3)
    tower_4 = MaxPooling2D((3, 3), strides=(1, 1), padding="same")(x)
    tower_4 = Conv2D(pool, 1, padding="same", activation="relu")(tower_4)
    return concatenate([tower_1, tower_2, tower_3, tower_4], axis=3)

visible = Input(shape=(64, 64, 3))
x = visible
for args in [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)]:
    x = inception_module(x, *args)
x = GlobalAveragePooling2D()(x)
model = keras.Model(inputs=visible, outputs=Dense(10)(x))

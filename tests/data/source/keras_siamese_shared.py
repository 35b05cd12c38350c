import keras
from keras import layers, ops

def embedding_network():
    inp = layers.Input((28, 28, 1))
    x = layers.Conv2D(4, (5, 5), activation="tanh")(inp)
    x = layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = layers.Conv2D(16, (5, 5), activation="tanh")(x)
    x = layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="tanh")(x)
    return keras.Model(inp, x)

embedding = embedding_network()
input_1 = layers.Input((28, 28, 1), name="left")
input_2 = layers.Input((28, 28, 1), name="right")
tower_1 = embedding(input_1)
tower_2 = embedding(input_2)
merged = layers.subtract([tower_1, tower_2])
output = layers.Dense(1, activation="sigmoid")(merged)
siamese = keras.Model(inputs=[input_1, input_2], outputs=output)
model = siamese

from keras import Sequential, Input
from keras.layers import Conv2D, MaxPooling2D, Flatten, Dense

filters = [2**k for k in range(4, 7)]
body = [layer for f in filters for layer in (Conv2D(f, 3, activation="relu"), MaxPooling2D())]
kwargs = dict(activation="relu")
head = [Dense(u, **kwargs) for u in (sum(filters), max(filters))]
model = Sequential([Input((64, 64, 3)), *body, Flatten()] + head + [Dense(1)])

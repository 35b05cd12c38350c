# input: 150x100x3
# model: sequential_of((150, 100, 3), [Conv2D(200, 5, padding="same")])
Conv2D(200, 5, padding="same")

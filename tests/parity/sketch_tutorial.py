"""The program of the sketch tutorial, for Keras; with its import lines changed it is one for tinyconv.

    python sketch_tutorial.py FOLDER [SEED] [DRAWINGS A CLASS]
"""

import glob
import os
import sys
import time

import keras
import numpy as np
from keras import layers

folder = sys.argv[1]
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
max_items_per_class = int(sys.argv[3]) if len(sys.argv) > 3 else 5000
keras.utils.set_random_seed(seed)

# Load the data
x, y, class_names = [], [], []
for number, file in enumerate(sorted(glob.glob(os.path.join(folder, "*.npy")))):
    drawings = np.load(file)[:max_items_per_class]
    x.append(drawings)
    y.append(np.full(len(drawings), number))
    class_names.append(os.path.splitext(os.path.basename(file))[0])
x, y = np.concatenate(x), np.concatenate(y)
order = np.random.RandomState(1).permutation(len(x))
x, y = x[order], y[order]
cut = len(x) // 5
x_test, y_test, x_train, y_train = x[:cut], y[:cut], x[cut:], y[cut:]
num_classes, image_size = len(class_names), 28

# Preprocess
x_train = x_train.reshape(len(x_train), image_size, image_size, 1).astype("float32")
x_test = x_test.reshape(len(x_test), image_size, image_size, 1).astype("float32")
x_train /= 255.0
x_test /= 255.0
y_train = keras.utils.to_categorical(y_train, num_classes)
y_test = keras.utils.to_categorical(y_test, num_classes)

# Define the model
model = keras.Sequential()
model.add(layers.Convolution2D(16, (3, 3), padding="same", input_shape=x_train.shape[1:], activation="relu"))
model.add(layers.MaxPooling2D(pool_size=(2, 2)))
model.add(layers.Convolution2D(32, (3, 3), padding="same", activation="relu"))
model.add(layers.MaxPooling2D(pool_size=(2, 2)))
model.add(layers.Convolution2D(64, (3, 3), padding="same", activation="relu"))
model.add(layers.MaxPooling2D(pool_size=(2, 2)))
model.add(layers.Flatten())
model.add(layers.Dense(128, activation="tanh"))
model.add(layers.Dense(num_classes, activation="softmax"))
model.compile(loss="categorical_crossentropy", optimizer="adam",
              metrics=["top_k_categorical_accuracy", "accuracy"])
model.summary()

# Train
start = time.perf_counter()
model.fit(x=x_train, y=y_train, validation_split=0.1, batch_size=256, verbose=2, epochs=5)
seconds = time.perf_counter() - start

# Test
loss, top_5, top_1 = model.evaluate(x_test, y_test, verbose=0)
print(f"seed {seed}: top-1 {top_1:.4f}, top-5 {top_5:.4f}, loss {loss:.4f}, trained in {seconds:.1f} s")

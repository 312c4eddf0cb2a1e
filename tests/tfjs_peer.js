// Runs a model folder in the real TensorFlow.js, for tests/test_formats_tfjs.py.
// usage: node tfjs_peer.js '{"folder": ..., "x": ..., "shape": [...], "out": ..., "train": {...}, "save": ...}'
// Writes float32 predictions to `out`; with `train`, fits on x and y afterwards; with `save`, saves there.
const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs');

function join(buffers) {
  const joined = Buffer.concat(buffers);
  return joined.buffer.slice(joined.byteOffset, joined.byteOffset + joined.byteLength);
}

function folderHandler(folder) {
  return {
    load: () => {
      const json = JSON.parse(fs.readFileSync(path.join(folder, 'model.json'), 'utf8'));
      return tf.io.getModelArtifactsForJSON(json, async manifest => {
        const paths = manifest.flatMap(group => group.paths);
        const data = join(paths.map(name => fs.readFileSync(path.join(folder, name))));
        return [manifest.flatMap(group => group.weights), data];
      });
    },
    save: async artifacts => {
      fs.mkdirSync(folder, {recursive: true});
      const data = tf.io.CompositeArrayBuffer.join(artifacts.weightData);
      fs.writeFileSync(path.join(folder, 'weights.bin'), Buffer.from(data));
      const json = tf.io.getModelJSONForModelArtifacts
          ? tf.io.getModelJSONForModelArtifacts(artifacts, [{paths: ['weights.bin'], weights: artifacts.weightSpecs}])
          : {
            modelTopology: artifacts.modelTopology,
            format: artifacts.format,
            generatedBy: artifacts.generatedBy,
            convertedBy: artifacts.convertedBy,
            trainingConfig: artifacts.trainingConfig,
            userDefinedMetadata: artifacts.userDefinedMetadata,
            weightsManifest: [{paths: ['weights.bin'], weights: artifacts.weightSpecs}],
          };
      fs.writeFileSync(path.join(folder, 'model.json'), JSON.stringify(json));
      return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts)};
    },
  };
}

function readTensor(file, shape) {
  const bytes = fs.readFileSync(file);
  return tf.tensor(new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)), shape);
}

async function main() {
  await tf.setBackend('cpu');
  const request = JSON.parse(process.argv[2]);
  const model = await tf.loadLayersModel(folderHandler(request.folder));
  const x = readTensor(request.x, request.shape);
  fs.writeFileSync(request.out, Buffer.from((await model.predict(x).data()).buffer));
  const report = {
    optimizer: model.optimizer ? model.optimizer.getClassName() : null,
    iterations: model.optimizer ? model.optimizer.iterations : null,
  };
  if (request.train) {
    const y = readTensor(request.train.y, request.train.shape);
    if (!model.optimizer) {
      model.compile({optimizer: request.train.optimizer, loss: request.train.loss});
    }
    const history = await model.fit(x, y, {
      epochs: request.train.epochs, batchSize: request.shape[0], shuffle: false, verbose: 0,
    });
    report.loss = history.history.loss;
    fs.writeFileSync(`${request.out}.trained`, Buffer.from((await model.predict(x).data()).buffer));
  }
  if (request.save) {
    await model.save(folderHandler(request.save), {includeOptimizer: true});
  }
  console.log(JSON.stringify(report));
}

main().catch(error => {
  console.error(String(error && error.message || error));
  process.exit(1);
});

// Runs model folders in the real TensorFlow.js, for tests/test_formats_tfjs_peer.py.
// usage: node tfjs_peer.js JOBS REPORT
// JOBS is a JSON object of jobs by name: {folder, x: {file, shape}, out, y?: {file, shape}, epochs?, save?}.
// A job loads the folder and writes predictions for x to `out`, float32; with `y` it evaluates the model; with
// `epochs` it trains on x and y, without shuffling, all of x a batch; with `save` it saves there.
// REPORT receives by name {error} or {optimizer, iterations, evaluation, losses}.
const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs');

function bytesOf(buffer) {
  return buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
}

function folderHandler(folder) {
  return {
    load: () => {
      const json = JSON.parse(fs.readFileSync(path.join(folder, 'model.json'), 'utf8'));
      return tf.io.getModelArtifactsForJSON(json, async manifest => {
        const files = manifest.flatMap(group => group.paths).map(name => fs.readFileSync(path.join(folder, name)));
        return [manifest.flatMap(group => group.weights), bytesOf(Buffer.concat(files))];
      });
    },
    save: async artifacts => {
      fs.mkdirSync(folder, {recursive: true});
      const data = tf.io.CompositeArrayBuffer.join(artifacts.weightData);
      fs.writeFileSync(path.join(folder, 'weights.bin'), Buffer.from(data));
      const {modelTopology, format, generatedBy, convertedBy, trainingConfig, userDefinedMetadata} = artifacts;
      const weightsManifest = [{paths: ['weights.bin'], weights: artifacts.weightSpecs}];
      const json = {
        modelTopology, format, generatedBy, convertedBy, trainingConfig, userDefinedMetadata, weightsManifest,
      };
      fs.writeFileSync(path.join(folder, 'model.json'), JSON.stringify(json));
      return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts)};
    },
  };
}

function readTensor({file, shape}) {
  return tf.tensor(new Float32Array(bytesOf(fs.readFileSync(file))), shape);
}

async function run(job) {
  const model = await tf.loadLayersModel(folderHandler(job.folder));
  const x = readTensor(job.x);
  fs.writeFileSync(job.out, Buffer.from((await model.predict(x).data()).buffer));
  const report = {optimizer: model.optimizer ? model.optimizer.getClassName() : null};
  if (job.y) {
    const y = readTensor(job.y);
    const batchSize = job.x.shape[0];
    const values = model.evaluate(x, y, {batchSize});
    report.evaluation = (Array.isArray(values) ? values : [values]).map(value => value.dataSync()[0]);
    if (job.epochs) {
      const history = await model.fit(x, y, {epochs: job.epochs, batchSize, shuffle: false, verbose: 0});
      report.losses = history.history.loss;
      report.iterations = model.optimizer.iterations;
    }
  }
  if (job.save) {
    await model.save(folderHandler(job.save), {includeOptimizer: Boolean(model.optimizer)});
  }
  model.dispose();
  return report;
}

async function main() {
  await tf.setBackend('cpu');
  const report = {};
  for (const [name, job] of Object.entries(JSON.parse(fs.readFileSync(process.argv[2], 'utf8')))) {
    try {
      report[name] = await run(job);
    } catch (error) {
      report[name] = {error: String(error && error.message || error)};
    }
  }
  fs.writeFileSync(process.argv[3], JSON.stringify(report));
}

main();

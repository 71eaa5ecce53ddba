// What @magenta/sketch computes: node pdf.js MODEL.json < strokes.json > pdf.json
// Strokes are rows [dx, dy, p1, p2, p3] in the model's data units, the first input being the
// client's own zeroInput(). The packages are looked up from the working folder.
const fs = require("fs");
const { createRequire } = require("module");
const { SketchRNN } = createRequire(process.cwd() + "/")("@magenta/sketch");

async function main() {
  console.log = () => {}; // the client says that it is initialised
  const file = fs.readFileSync(process.argv[2]);
  const model = new SketchRNN("data:application/json;base64," + file.toString("base64"));
  await model.initialize();
  model.setPixelFactor(1);
  const history = [model.zeroInput(), ...JSON.parse(fs.readFileSync(0, "utf8"))];
  let state = model.zeroState();
  for (const stroke of history) state = model.update(stroke, state);
  const pdf = model.getPDF(state, 1.0);
  const plain = Object.fromEntries(Object.entries(pdf).map(([key, row]) => [key, [...row]]));
  process.stdout.write(JSON.stringify({ pdf: plain, info: model.info }));
}

main();

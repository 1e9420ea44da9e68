/**
 * `make k8s-new`: writes k8s/overlays/NAME from the variables NAME, IMAGE, NAMESPACE, COMPONENTS, PORT and HOST, or says what is wrong
 * with them. It runs in the root of the clone.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COMPONENT_NAMES } from './kubernetes.ts';
import { overlayFiles, overlayProblems } from './overlay.ts';

const { NAME: name = '', IMAGE: image = '', NAMESPACE: namespace = '', COMPONENTS, PORT, HOST: host } = process.env;

const settings = {
  name,
  image,
  namespace,
  ...(COMPONENTS !== undefined && { components: COMPONENTS.split(/[\s,]+/).filter(component => component !== '') }),
  ...(PORT !== undefined && { port: Number(PORT) }),
  ...(host !== undefined && { host }),
};

function refuse(problems: readonly string[]): never {
  for (const problem of problems) console.error(`k8s-new: ${problem}`);
  process.exit(1);
}

const problems = overlayProblems(settings, COMPONENT_NAMES);
if (problems.length > 0) refuse(problems);
const folder = join('k8s', 'overlays', name);
try {
  mkdirSync(folder);
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  refuse([`k8s/overlays/${name} is there already: remove it, or change it by hand`]);
}
for (const [file, text] of Object.entries(overlayFiles(settings))) {
  writeFileSync(join(folder, file), text);
  console.log(`wrote k8s/overlays/${name}/${file}`);
}
console.log(`Its namespace must exist: kubectl create namespace ${namespace}. Then: make k8s-apply NAME=${name}`);

/**
 * Reads the schemas of custom resources from the declarations of npm's @kubernetes-models (MIT), which are generated from the Go types of
 * each project: a class or an alias a type, with every field, its type, and whether it is required.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { unpacked } from './package-files.ts';
import { CUSTOM_KINDS, type Definition, type Schema } from './schemas.ts';

/** The package of each API group. */
const PACKAGES: Record<string, string> = {
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api@2.0.0',
  'keda.sh': '@kubernetes-models/keda@2.0.0',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator@6.0.0',
};

/** The definitions of all custom kinds, and of all types that they refer to but those of Kubernetes. */
export function customDefinitions(): { definitions: Record<string, Definition>; source: string } {
  const definitions: Record<string, Definition> = {};
  const wanted = Object.keys(CUSTOM_KINDS)
    .map(kind => kind.replace(' ', '/'))
    .filter(file => PACKAGES[file.split('/')[0] ?? ''] !== undefined);
  for (let file = wanted.pop(); file !== undefined; file = wanted.pop()) {
    if (nameOf(file) in definitions) continue;
    const found = new Set<string>();
    definitions[nameOf(file)] = definitionAt(file, found);
    wanted.push(...found);
  }
  return { definitions, source: Object.values(PACKAGES).join(', ') };
}

/** Of `keda.sh/v1alpha1/ScaledObject`: `keda.sh.v1alpha1.ScaledObject`. */
const nameOf = (file: string) => file.replaceAll('/', '.');

function declarationAt(file: string): string {
  const [group = ''] = file.split('/');
  const name = PACKAGES[group];
  if (name === undefined) throw new Error(`a package must be named for the API group ${group}`);
  return readFileSync(join(unpacked(name), `${file}.d.ts`), 'utf8').replaceAll(/^ *\/\*\*[\s\S]*?\*\/\n/gm, '');
}

function definitionAt(file: string, found: Set<string>): Definition {
  const text = declarationAt(file);
  const imported = Object.fromEntries(
    [...text.matchAll(/^import \{ (\w+) \} from "(.+?)(?:\.js)?";$/gm)].map(([, name = '', from = '']) => [name, from]),
  );
  const refer = (type: string): Schema => {
    const from = imported[type];
    if (from?.startsWith('.')) {
      found.add(join(dirname(file), from));
      return { $ref: `#/$defs/${nameOf(join(dirname(file), from))}` };
    }
    if (/(IntOrString|ResourceQuantity)$/.test(type)) return { type: ['integer', 'string'] };
    const [kubernetes] = /V\d+[A-Z]\w+$/.exec(type) ?? []; // IIoK8sApiCoreV1SecretKeySelector
    if (kubernetes === undefined) throw new Error(`${file}: a type was expected, got ${type}`);
    return kubernetes === 'V1Duration' ? { type: 'string' } : { $ref: `#/$defs/${kubernetes}` };
  };
  const alias = /^export type I\w+ = (.+);$/m.exec(text)?.[1];
  if (alias !== undefined) return schemaOf(alias, refer) as Definition;
  // The class has the inherited fields, too; methods and static members follow them.
  const body = /^export declare class \w+ extends .+ \{\n([\s\S]*?)^ {4}(?:static|constructor)\b/m.exec(text)?.[1];
  if (body === undefined) throw new Error(`${file}: a class was expected`);
  const fields = [...body.matchAll(/^ {4}"([^"]+)"(\??): ([\s\S]*?);$(?=\n {4}"|\n*$(?![\s\S]))/gm)].filter(
    ([, name]) => name !== 'status',
  );
  const required = fields.flatMap(([, name = '', optional]) => (optional === '' ? [name] : []));
  return {
    type: 'object',
    additionalProperties: false,
    ...(required.length > 0 && { required: required.sort() }),
    properties: Object.fromEntries(fields.map(([, name = '', , type = '']) => [name, schemaOf(type, refer)])),
  };
}

const PLAIN: Record<string, Schema> = {
  string: { type: 'string' },
  number: { type: 'integer' }, // no kind here has a fraction
  boolean: { type: 'boolean' },
};

function schemaOf(type: string, refer: (type: string) => Schema): Schema {
  const plain = PLAIN[type];
  if (plain !== undefined) return plain;
  const item = /^Array<([\s\S]+)>$/.exec(type)?.[1];
  if (item !== undefined) return { type: 'array', items: schemaOf(item, refer) };
  const value = /^\{\s*\[key: string\]: ([\s\S]+);\s*\}$/.exec(type)?.[1];
  if (value !== undefined) return { type: 'object', additionalProperties: schemaOf(value, refer) };
  if (/^(?:"[^"]*"|\d+)(?: \| (?:"[^"]*"|\d+))*$/.test(type)) {
    return { enum: type.split(' | ').map(one => JSON.parse(one)) };
  }
  return refer(type);
}

/**
 * `make k8s-schemas`: writes test/k8s/schemas, the JSON schemas of the kinds that this project uses. Those of Kubernetes come from the
 * official JavaScript client (npm @kubernetes/client-node, Apache-2.0), each release of which is generated from the OpenAPI document of one
 * Kubernetes version. Its models name each field with its type, and their declarations which fields are required. The first version is
 * written in full, of each later one only the definitions that differ from those before it. custom-schemas.ts reads those of other projects.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { customDefinitions } from './custom-schemas.ts';
import { unpacked } from './package-files.ts';
import { type Definition, FOLDER, KINDS, type Schema, VERSIONS, type Version } from './schemas.ts';

type Definitions = Record<string, Definition>;

/** Releases of the client, and how their models name their OpenAPI document. */
const CLIENTS = {
  '1.30': { release: '0.22.3', document: 'release-1.30' },
  '1.32': { release: '1.1.2', document: 'v1.32.0' },
  '1.33': { release: '1.3.0', document: 'v1.33.0' },
  '1.34': { release: '1.4.0', document: 'v1.34.0' },
  '1.36': { release: '2.0.1', document: 'release-1.36' },
} as const;
type ClientVersion = keyof typeof CLIENTS;

/**
 * The client has had no release for these. Their definitions are those of the version after, without the fields that are new there; another
 * package that was generated from the OpenAPI document of the version itself has the fields that are not. An alpha field that only this
 * version had is missing.
 */
const BETWEEN: Record<Exclude<Version, ClientVersion>, Between> = {
  '1.31': {
    before: '1.30',
    after: '1.32',
    name: 'cdk8s-plus-31@2.6.43', // Apache-2.0
    file: 'lib/imports/k8s.d.ts',
    declares: (text, kind, field) => new RegExp(`@schema io\\.k8s\\.[\\w.-]+\\.${kind}#${field}\\b`).test(text),
  },
  '1.35': {
    before: '1.34',
    after: '1.36',
    name: '@pulumi/kubernetes@4.28.0', // Apache-2.0
    file: 'types/input.d.ts',
    declares: (text, kind, field) => {
      const interfaces = text.split(/\binterface /).filter(one => one.startsWith(`${kind} {`));
      return interfaces.some(one => new RegExp(`^ +${field}\\??: `, 'm').test(one));
    },
  },
};

interface Between {
  before: ClientVersion;
  after: ClientVersion;
  name: string;
  file: string;
  declares: (text: string, kind: string, field: string) => boolean;
}

async function definitionsOf(version: Version): Promise<{ definitions: Definitions; source: string }> {
  if (isOfClient(version)) {
    const { release, document } = CLIENTS[version];
    return {
      definitions: await clientDefinitions(version),
      source: `@kubernetes/client-node ${release}, OpenAPI ${document}`,
    };
  }
  const { before, after, name, file, declares } = BETWEEN[version];
  const [older, newer] = [await clientDefinitions(before), await clientDefinitions(after)];
  const text = readFileSync(join(unpacked(name), file), 'utf8');
  const definitions: Definitions = {};
  for (const [model, definition] of Object.entries(newer)) {
    const kind = model.replace(/^(Core)?V\d+/, '');
    const fields = Object.entries(definition.properties).filter(
      ([field]) => older[model]?.properties[field] !== undefined || declares(text, kind, field),
    );
    const required = [...new Set([older[model], definition].flatMap(one => (one?.required ?? []) as string[]))];
    if (fields.length > 0) definitions[model] = objectOf(Object.fromEntries(fields), required);
  }
  return { definitions, source: `@kubernetes/client-node for ${after}, with the fields that ${name} declares` };
}

function isOfClient(version: string): version is ClientVersion {
  return version in CLIENTS;
}

/** The definitions of all kinds, and of all types that they refer to. */
async function clientDefinitions(version: ClientVersion): Promise<Definitions> {
  const { release, document } = CLIENTS[version];
  const generated = join(unpacked(`@kubernetes/client-node@${release}`), 'dist', 'gen');
  const definitions: Definitions = {};
  const wanted = Object.values(KINDS);
  for (let model = wanted.pop(); model !== undefined; model = wanted.pop()) {
    if (model in definitions) continue;
    const definition = await definitionOf(generated, model, document);
    definitions[model] = definition;
    wanted.push(...[...JSON.stringify(definition).matchAll(/"#\/\$defs\/(\w+)"/g)].map(([, name = '']) => name));
  }
  return definitions;
}

async function definitionOf(generated: string, model: string, document: string): Promise<Definition> {
  const newer = join(generated, 'models', model); // since 1.0
  const file = existsSync(`${newer}.js`) ? newer : join(generated, 'model', model.replace('V', 'v'));
  const [, found] = /OpenAPI (?:spec version|document): (\S+)/.exec(readFileSync(`${file}.js`, 'utf8')) ?? [];
  if (found !== document) throw new Error(`${file}.js must be generated from the OpenAPI document ${document}, got ${found}`);
  const module = (await import(pathToFileURL(`${file}.js`).href)) as Record<string, { attributeTypeMap: Field[] }>;
  const fields = module[model]?.attributeTypeMap;
  if (fields === undefined) throw new Error(`${file}.js must export ${model}`);
  const declaration = readFileSync(`${file}.d.ts`, 'utf8');
  const required = fields.map(({ baseName }) => baseName).filter(name => new RegExp(`^ +'_?${name}': `, 'm').test(declaration));
  return objectOf(Object.fromEntries(fields.map(({ baseName, type }) => [baseName, schemaOf(type)])), required);
}

function objectOf(properties: Record<string, Schema>, required: string[]): Definition {
  return {
    type: 'object',
    additionalProperties: false,
    ...(required.length > 0 && { required: required.sort() }),
    properties: Object.fromEntries(Object.entries(properties).sort(byName)),
  };
}

interface Field {
  baseName: string;
  type: string;
}

const PLAIN: Record<string, Schema> = {
  string: { type: 'string' },
  number: { type: 'integer' }, // no kind here has a fraction
  boolean: { type: 'boolean' },
  Date: { type: 'string' },
  IntOrString: { type: ['integer', 'string'] },
  object: {},
  any: {},
};

/** Of a type as the client writes it: `V1Container`, `Array<string>`, `{ [key: string]: string; }`. */
function schemaOf(type: string): Schema {
  const plain = PLAIN[type];
  if (plain !== undefined) return plain;
  const item = /^Array<(.+)>$/.exec(type)?.[1];
  if (item !== undefined) return { type: 'array', items: schemaOf(item) };
  const value = /^\{ \[key: string\]: (.+); \}$/.exec(type)?.[1];
  if (value !== undefined) return { type: 'object', additionalProperties: schemaOf(value) };
  if (!/^\w+$/.test(type)) throw new Error(`a type of the Kubernetes client was expected, got ${type}`);
  return { $ref: `#/$defs/${type}` };
}

function byName([one]: [string, unknown], [other]: [string, unknown]): number {
  return one < other ? -1 : 1;
}

function write(file: string, source: string, definitions: [string, Definition][]): void {
  const lines = definitions.sort(byName).map(([name, definition]) => `  ${JSON.stringify(name)}: ${JSON.stringify(definition)}`);
  writeFileSync(join(FOLDER, file), `{\n  "$comment": ${JSON.stringify(source)},\n${lines.join(',\n')}\n}\n`);
  process.stdout.write(`${file}: ${definitions.length} definitions from ${source}\n`);
}

const known: Definitions = {};
for (const version of VERSIONS) {
  const { definitions, source } = await definitionsOf(version);
  const changed = Object.entries(definitions).filter(
    ([name, definition]) => JSON.stringify(known[name]) !== JSON.stringify(definition),
  );
  Object.assign(known, Object.fromEntries(changed));
  write(`${version}.json`, source, changed);
}
const { definitions, source } = customDefinitions();
write('custom.json', source, Object.entries(definitions));

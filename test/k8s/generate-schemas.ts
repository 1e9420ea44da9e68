/**
 * `make k8s-schemas`: writes test/k8s/schemas, the JSON schemas of the kinds that this project uses, from the official JavaScript client
 * (npm @kubernetes/client-node, Apache-2.0), each release of which is generated from the OpenAPI document of one Kubernetes version. Its
 * models name each field with its type, and their declarations which fields are required. The first version is written in full, of each
 * later one only the definitions that differ from those before it.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Definition, FOLDER, KINDS, type Schema, VERSIONS, type Version } from './schemas.ts';

/** The release for a Kubernetes version, and how its models name their OpenAPI document. There is none for 1.31 and 1.35. */
const SOURCES: Record<Version, { release: string; document: string }> = {
  '1.30': { release: '0.22.3', document: 'release-1.30' },
  '1.32': { release: '1.1.2', document: 'v1.32.0' },
  '1.33': { release: '1.3.0', document: 'v1.33.0' },
  '1.34': { release: '1.4.0', document: 'v1.34.0' },
  '1.36': { release: '2.0.1', document: 'release-1.36' },
};

/** The definitions of all kinds, and of all types that they refer to. */
async function definitionsOf(version: Version): Promise<Record<string, Definition>> {
  const folder = mkdtempSync(join(tmpdir(), 'k8s-schemas-'));
  try {
    const { release, document } = SOURCES[version];
    const tarball = execFileSync('npm', ['pack', '--silent', `@kubernetes/client-node@${release}`], {
      cwd: folder,
      encoding: 'utf8',
    });
    execFileSync('tar', ['xzf', tarball.trim()], { cwd: folder });
    const definitions: Record<string, Definition> = {};
    const wanted = Object.values(KINDS);
    for (let model = wanted.pop(); model !== undefined; model = wanted.pop()) {
      if (model in definitions) continue;
      const definition = await definitionOf(join(folder, 'package', 'dist', 'gen'), model, document);
      definitions[model] = definition;
      wanted.push(...[...JSON.stringify(definition).matchAll(/"#\/\$defs\/(\w+)"/g)].map(([, name = '']) => name));
    }
    return definitions;
  } finally {
    rmSync(folder, { recursive: true });
  }
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
  const properties = Object.fromEntries(
    fields.map(({ baseName, type }): [string, Schema] => [baseName, schemaOf(type)]).sort(byName),
  );
  return { type: 'object', additionalProperties: false, ...(required.length > 0 && { required: required.sort() }), properties };
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

const known: Record<string, Definition> = {};
for (const version of VERSIONS) {
  const changed = Object.entries(await definitionsOf(version))
    .filter(([name, definition]) => JSON.stringify(known[name]) !== JSON.stringify(definition))
    .sort(byName);
  Object.assign(known, Object.fromEntries(changed));
  const lines = changed.map(([name, definition]) => `  ${JSON.stringify(name)}: ${JSON.stringify(definition)}`);
  const { release, document } = SOURCES[version];
  const source = `@kubernetes/client-node ${release}, OpenAPI ${document}`;
  writeFileSync(join(FOLDER, `${version}.json`), `{\n  "$comment": ${JSON.stringify(source)},\n${lines.join(',\n')}\n}\n`);
  process.stdout.write(`${version}: ${changed.length} definitions from ${source}\n`);
}

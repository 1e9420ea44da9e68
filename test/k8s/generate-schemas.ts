/**
 * `make k8s-schemas`: writes test/k8s/schemas, the JSON schemas of the kinds that this project uses. Their source is the official
 * JavaScript client (npm @kubernetes/client-node, Apache-2.0), which is generated from the OpenAPI document of one Kubernetes version
 * per release: its models name each field with its type, and in their declarations which ones are required. The first version is
 * written in full; of each later one only the definitions that differ from those before it.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FOLDER, KINDS, type Schema, VERSIONS } from './schemas.ts';

/** The release of the client for a Kubernetes version, and what its models say of it. It has had none for 1.31 and 1.35. */
const CLIENTS: Record<(typeof VERSIONS)[number], { release: string; says: string }> = {
  '1.30': { release: '0.22.3', says: 'release-1.30' },
  '1.32': { release: '1.1.2', says: 'v1.32.0' },
  '1.33': { release: '1.3.0', says: 'v1.33.0' },
  '1.34': { release: '1.4.0', says: 'v1.34.0' },
  '1.36': { release: '2.0.1', says: 'release-1.36' },
};

const PLAIN: Record<string, Schema> = {
  string: { type: 'string' },
  number: { type: 'integer' }, // no kind here has a fraction
  boolean: { type: 'boolean' },
  Date: { type: 'string' },
  IntOrString: { type: ['integer', 'string'] },
  object: {},
  any: {},
};

interface Field {
  baseName: string;
  type: string;
}

async function main(): Promise<void> {
  const known: Record<string, string> = {};
  for (const version of VERSIONS) {
    const changed = Object.entries(await definitionsOf(version))
      .map(([name, schema]) => [name, JSON.stringify(schema)] as const)
      .filter(([name, text]) => known[name] !== text)
      .sort(([one], [other]) => (one < other ? -1 : 1));
    for (const [name, text] of changed) known[name] = text;
    const lines = changed.map(([name, text]) => `  ${JSON.stringify(name)}: ${text}`);
    const { release, says } = CLIENTS[version];
    const source = `@kubernetes/client-node ${release}, OpenAPI ${says}`;
    writeFileSync(join(FOLDER, `${version}.json`), `{\n  "$comment": ${JSON.stringify(source)},\n${lines.join(',\n')}\n}\n`);
    process.stdout.write(`${version}: ${changed.length} definitions from ${source}\n`);
  }
}

/** The definitions of all kinds, and all that they refer to. */
async function definitionsOf(version: (typeof VERSIONS)[number]): Promise<Record<string, Schema>> {
  const folder = mkdtempSync(join(tmpdir(), 'k8s-schemas-'));
  try {
    const { release, says } = CLIENTS[version];
    const tarball = execFileSync('npm', ['pack', '--silent', `@kubernetes/client-node@${release}`], {
      cwd: folder,
      encoding: 'utf8',
    });
    execFileSync('tar', ['xzf', tarball.trim()], { cwd: folder });
    const definitions: Record<string, Schema> = {};
    const wanted = Object.values(KINDS);
    for (let model = wanted.pop(); model !== undefined; model = wanted.pop()) {
      if (model in definitions) continue;
      const { schema, refersTo } = await definitionOf(join(folder, 'package', 'dist', 'gen'), model, says);
      definitions[model] = schema;
      wanted.push(...refersTo);
    }
    return definitions;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function definitionOf(folder: string, model: string, says: string): Promise<{ schema: Schema; refersTo: string[] }> {
  const newer = join(folder, 'models', model); // since 1.0 of the client
  const file = existsSync(`${newer}.js`) ? newer : join(folder, 'model', model.replace('V', 'v'));
  const [code, declaration] = ['.js', '.d.ts'].map(end => readFileSync(`${file}${end}`, 'utf8')) as [string, string];
  const [, document] = /OpenAPI (?:spec version|document): (\S+)/.exec(code) ?? [];
  if (document !== says) throw new Error(`${file}.js must be made from the OpenAPI document ${says}, got ${document}`);
  const module = (await import(pathToFileURL(`${file}.js`).href)) as Record<string, { attributeTypeMap: Field[] }>;
  const fields = module[model]?.attributeTypeMap;
  if (fields === undefined) throw new Error(`${file}.js must export ${model}`);
  const refersTo: string[] = [];
  const required = fields.map(({ baseName }) => baseName).filter(name => new RegExp(`^ +'_?${name}': `, 'm').test(declaration));
  const properties = Object.fromEntries(fields.map(({ baseName, type }) => [baseName, schemaOf(type, refersTo)]));
  const schema = { type: 'object', additionalProperties: false, ...(required.length > 0 && { required }), properties };
  return { schema, refersTo };
}

/** Of a type as the client writes it: `V1Container`, `Array<string>`, `{ [key: string]: string; }`. */
function schemaOf(type: string, refersTo: string[]): Schema {
  const plain = PLAIN[type];
  if (plain !== undefined) return plain;
  const item = /^Array<(.+)>$/.exec(type)?.[1];
  if (item !== undefined) return { type: 'array', items: schemaOf(item, refersTo) };
  const value = /^\{ \[key: string\]: (.+); \}$/.exec(type)?.[1];
  if (value !== undefined) return { type: 'object', additionalProperties: schemaOf(value, refersTo) };
  if (!/^\w+$/.test(type)) throw new Error(`a type of the Kubernetes client was expected, got ${type}`);
  refersTo.push(type);
  return { $ref: `#/$defs/${type}` };
}

await main();

/**
 * `make k8s-schemas`: writes test/k8s/schemas, the JSON schemas of the kinds that this project uses, from packages that are generated
 * from the OpenAPI document of one Kubernetes version per release. The first version is written in full; of each later one only the
 * definitions that differ from those before it.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { definitionsIn } from './cdk8s.ts';
import { definitionIn } from './client.ts';
import { type Definition, FOLDER, KINDS, VERSIONS, type Version } from './schemas.ts';

/**
 * The release for a Kubernetes version, and for the official client what its models say of their OpenAPI document. That client has
 * had no release for 1.31 and 1.35.
 */
const SOURCES: Record<Version, { name: string; release: string; document?: string }> = {
  '1.30': { name: '@kubernetes/client-node', release: '0.22.3', document: 'release-1.30' },
  '1.31': { name: 'cdk8s-plus-31', release: '2.6.43' },
  '1.32': { name: '@kubernetes/client-node', release: '1.1.2', document: 'v1.32.0' },
  '1.33': { name: '@kubernetes/client-node', release: '1.3.0', document: 'v1.33.0' },
  '1.34': { name: '@kubernetes/client-node', release: '1.4.0', document: 'v1.34.0' },
  '1.36': { name: '@kubernetes/client-node', release: '2.0.1', document: 'release-1.36' },
};

async function main(): Promise<void> {
  const known: Record<string, Definition> = {};
  for (const version of VERSIONS) {
    const changed = Object.entries(await definitionsOf(version, known))
      .filter(([name, definition]) => JSON.stringify(known[name]) !== JSON.stringify(definition))
      .sort(([one], [other]) => (one < other ? -1 : 1));
    Object.assign(known, Object.fromEntries(changed));
    const lines = changed.map(([name, definition]) => `  ${JSON.stringify(name)}: ${JSON.stringify(definition)}`);
    const { name, release, document } = SOURCES[version];
    const source = `${name} ${release}${document === undefined ? '' : `, OpenAPI ${document}`}`;
    writeFileSync(join(FOLDER, `${version}.json`), `{\n  "$comment": ${JSON.stringify(source)},\n${lines.join(',\n')}\n}\n`);
    process.stdout.write(`${version}: ${changed.length} definitions from ${source}\n`);
  }
}

/** The definitions of all kinds, and all that they refer to. */
async function definitionsOf(version: Version, before: Record<string, Definition>): Promise<Record<string, Definition>> {
  const folder = mkdtempSync(join(tmpdir(), 'k8s-schemas-'));
  try {
    const { name, release, document } = SOURCES[version];
    const tarball = execFileSync('npm', ['pack', '--silent', `${name}@${release}`], { cwd: folder, encoding: 'utf8' });
    execFileSync('tar', ['xzf', tarball.trim()], { cwd: folder });
    const all =
      document === undefined
        ? definitionsIn(readFileSync(join(folder, 'package', 'lib', 'imports', 'k8s.d.ts'), 'utf8'), before)
        : undefined;
    const definitions: Record<string, Definition> = {};
    const wanted = Object.values(KINDS);
    for (let model = wanted.pop(); model !== undefined; model = wanted.pop()) {
      if (model in definitions) continue;
      const found = document === undefined ? (all?.[model] ?? before[model]) : await definitionIn(folder, model, document);
      if (found === undefined) throw new Error(`${name} ${release} must have ${model}`);
      definitions[model] = sorted(found);
      wanted.push(...[...JSON.stringify(found).matchAll(/"#\/\$defs\/(\w+)"/g)].map(([, name = '']) => name));
    }
    return definitions;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The sources have orders of their own. */
function sorted({ properties, ...rest }: Definition): Definition {
  const fields = Object.entries(properties).sort(([one], [other]) => (one < other ? -1 : 1));
  return {
    ...rest,
    ...(Array.isArray(rest.required) && { required: rest.required.toSorted() }),
    properties: Object.fromEntries(fields),
  };
}

await main();

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import packageJson from '../package.json' with { type: 'json' };
import { CHART, DEFAULTS, isMap, nested, readChart, TEMPLATES, type Values } from './k8s/chart.ts';
import { SAMPLES } from './k8s/chart-samples.ts';
import { SCHEMA, valueProblems } from './k8s/chart-schema.ts';

/** Maps that are one value: others take their place as a whole, or add to them. */
const WHOLE =
  /^(app\.env|((redis|redis\.sentinel)\.)?resources\.(requests|limits)|autoscaling\.behavior|podSecurityContext|securityContext|monitoring\.(labels|dashboardLabels))$/;

const leaves = (value: Values, prefix = ''): string[] =>
  Object.entries(value).flatMap(([key, inner]) => {
    const path = `${prefix}${key}`;
    return isMap(inner) && Object.keys(inner).length > 0 && !WHOLE.test(path) ? leaves(inner, `${path}.`) : [path];
  });
const LEAVES = leaves(DEFAULTS);
/** What Helm passes to the chart as a dependency: it is in no values.yaml, and no template reads it. */
const OF_PARENT = ['global', 'enabled'];

test('the schema accepts the default values and every sample', () => {
  assert.deepEqual(valueProblems({}), []);
  for (const [path, { value, needs = {} }] of Object.entries(SAMPLES))
    assert.deepEqual(valueProblems(nested({ ...needs, [path]: value })), [], path);
});

test('a parent chart can switch the chart on by a condition, and pass its globals', () => {
  assert.deepEqual(valueProblems({ enabled: true, global: { imageRegistry: 'registry' } }), []);
});

test('values.yaml and the schema have the same values, and each has a sample', () => {
  const properties = (of: Values, prefix = ''): string[] =>
    Object.entries((of.properties ?? {}) as Record<string, Values>).flatMap(([key, inner]) => {
      const path = `${prefix}${key}`;
      return inner.properties !== undefined && LEAVES.some(leaf => leaf.startsWith(`${path}.`))
        ? properties(inner, `${path}.`)
        : [path];
    });
  const inSchema = properties(SCHEMA).flatMap(path =>
    /(^|\.)resources$/.test(path) ? [`${path}.requests`, `${path}.limits`] : [path],
  );
  assert.deepEqual(inSchema.filter(path => !OF_PARENT.includes(path)).sort(), [...LEAVES].sort());
  assert.deepEqual(Object.keys(SAMPLES).sort(), [...LEAVES].sort());
});

test('the templates read every value, and no other', () => {
  const read = TEMPLATES.map(readChart).flatMap(source => {
    const text = source.replaceAll('$values.', '.Values.').replaceAll('$redis.', '.Values.redis.');
    return [...text.matchAll(/(toYaml |include "[\w.-]+" )?\$?\.Values\.(\w+(?:\.\w+)*)/g)].map(([, whole, path = '']) => ({
      whole,
      path,
      text,
    }));
  });
  const isInside = (path: string, outer: string) => `${path}.`.startsWith(`${outer}.`);
  assert.deepEqual(
    read.map(({ path }) => path).filter(path => !LEAVES.some(leaf => isInside(leaf, path) || isInside(path, leaf))),
    [],
    'values that values.yaml does not have',
  );
  // A map is read as a whole, or by its keys below `with`.
  const isRead = (leaf: string) =>
    read.some(({ whole, path, text }) => {
      const key = leaf.slice(leaf.lastIndexOf('.'));
      return isInside(leaf, path) && (leaf === path || whole !== undefined || (key.startsWith('.') && text.includes(` ${key}`)));
    });
  assert.deepEqual(
    LEAVES.filter(leaf => !isRead(leaf)),
    [],
    'values that no template reads',
  );
});

/** Values that cannot be meant, and where the schema says so. */
const IMPOSSIBLE: [values: Values, where: RegExp][] = [
  [{ imag: { tag: '1' } }, /^ must NOT have additional properties/],
  [{ 'image.tags': '1' }, /^\/image must NOT have additional properties/],
  [{ 'image.tag': 2 }, /^\/image\/tag must be string/],
  [{ 'image.repository': 'koa-bosun:1' }, /^\/image\/repository/],
  [{ 'image.digest': 'sha256:12' }, /^\/image\/digest must match pattern/],
  [{ 'image.pullPolicy': 'always' }, /^\/image\/pullPolicy must be equal to one of/],
  [{ workers: 'many' }, /^\/workers must match pattern "\^\(auto\|max\|fromRequest/],
  [{ workers: 0 }, /^\/workers must be >= 1/],
  [{ workers: 1.5 }, /^\/workers must be string,integer/],
  [{ replicas: '3' }, /^\/replicas must be integer/],
  [{ 'shutdown.graceSeconds': 60 }, /^\/shutdown must NOT have additional properties/],
  [{ 'shutdown.delaySeconds': '10s' }, /^\/shutdown\/delaySeconds must be integer/],
  [{ 'app.port': 9090 }, /^\/app\/port must NOT be valid/],
  [{ 'app.env': { 'A B': 'c' } }, /^\/app\/env property name must be valid/],
  [{ 'app.env': { A: { value: 'b' } } }, /^\/app\/env\/A must have required property 'valueFrom'/],
  [{ 'resources.limits': { memory: '512MB' } }, /^\/resources\/limits\/memory must match pattern/],
  [{ 'service.type': 'ExternalName' }, /^\/service\/type must be equal to one of/],
  [{ 'service.trafficDistribution': 'Near' }, /^\/service\/trafficDistribution must be equal to one of/],
  [{ ipFamily: 'ipv6' }, /^\/ipFamily must be equal to one of/],
  [{ 'ingress.hosts': ['shop.example.com'] }, /^\/ingress\/hosts\/0 must be object/],
  [{ 'httpRoute.enabled': true }, /^\/httpRoute\/parentRefs must NOT have fewer than 1 items/],
  [{ 'autoscaling.mode': 'memory' }, /^\/autoscaling\/mode must be equal to one of/],
  [{ 'pdb.maxUnavailable': 'all' }, /^\/pdb\/maxUnavailable must match pattern/],
  [{ 'redis.mode': 'sentinels' }, /^\/redis\/mode must be equal to one of/],
  [{ 'redis.mode': 'cluster' }, /^\/redis\/cluster\/nodes must NOT have fewer than 1 items/],
  [{ 'redis.url': 'redis://:secret@host' }, /^\/redis\/url must match pattern/],
  [{ 'redis.cluster.nodes': ['host'] }, /^\/redis\/cluster\/nodes\/0 must match pattern/],
  [{ 'podLabels.a': 'b c' }, /^\/podLabels\/a must match pattern/],
  [{ 'podAnnotations.a': {} }, /^\/podAnnotations\/a must be string/],
  [{ extraContainers: [{ image: 'a' }] }, /^\/extraContainers\/0 must have required property 'name'/],
  [{ 'sessions.prefix': 'none' }, /^\/sessions\/prefix must NOT be valid/],
  [{ 'sessions.prefix': 'a:b' }, /^\/sessions\/prefix must match pattern/],
  [{ redis: null }, /^ must have required property 'redis'/],
];

test('the schema rejects unknown and impossible values, and names them', () => {
  for (const [values, where] of IMPOSSIBLE) {
    const found = valueProblems(nested(values));
    assert.ok(
      found.some(one => where.test(one)),
      `${JSON.stringify(values)}: expected ${where}, got ${JSON.stringify(found)}`,
    );
  }
});

test('the schema has no map that takes unknown keys, but those that Kubernetes defines', () => {
  const open = (of: Values, path: string): string[] => [
    ...(of.properties !== undefined && of.additionalProperties === undefined && of.type === 'object' && of.required === undefined
      ? [path]
      : []),
    ...Object.entries((of.properties ?? {}) as Record<string, Values>).flatMap(([key, inner]) => open(inner, `${path}.${key}`)),
  ];
  assert.deepEqual(open(SCHEMA, ''), []);
});

test('the chart has the version of the kit', () => {
  const { name, version, appVersion } = parse(readChart('Chart.yaml')) as Values;
  assert.deepEqual(
    { name, version, appVersion },
    { name: packageJson.name, version: packageJson.version, appVersion: packageJson.version },
  );
});

test('docs/guide/helm.md names values that exist, and compares every value of podinfo that it names with one', () => {
  const page = readFileSync(join(CHART, '..', '..', 'docs', 'guide', 'helm.md'), 'utf8').replace(/^```[\s\S]*?^```$/gm, '');
  const own = page.replace(/^\| [^|]*\|/gm, '|'); // the first column is podinfo's
  const named = [...own.matchAll(/`([a-zA-Z]+(?:\.\w+)*)`/g)].flatMap(([, name = '']) =>
    (name.split('.')[0] ?? '') in DEFAULTS ? [name] : [],
  );
  assert.ok(named.length > 30);
  const exists = (name: string) => LEAVES.some(leaf => `${leaf}.`.startsWith(`${name}.`) || `${name}.`.startsWith(`${leaf}.`));
  assert.deepEqual(
    named.filter(name => !exists(name)),
    [],
  );
  for (const key of Object.keys(DEFAULTS).filter(
    key => !['commonLabels', 'annotations', 'tmpSize', 'test', 'global'].includes(key),
  ))
    assert.match(page, new RegExp(`\`(?:extra|${key}[.\`:])`), key);
});

/**
 * What OpenTelemetry says of a worker, beside what the operator has set.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resourceAttributes } from '../src/pool/resource-attributes.ts';

const INSTANCE = { service: 'shop', version: '1.2.3', host: 'shop-abc', port: 3000, worker: 2, generation: 4 };

/** As the specification has an SDK read the variable. */
function read(environment: Record<string, string | undefined>, change: Partial<typeof INSTANCE> = {}): Record<string, string> {
  const { OTEL_RESOURCE_ATTRIBUTES = '' } = resourceAttributes({ ...INSTANCE, ...change }, environment);
  const pairs = OTEL_RESOURCE_ATTRIBUTES.split(',').map(pair => pair.split('='));
  assert.ok(pairs.every(({ length }) => length === 2));
  return Object.fromEntries(pairs.map(pair => pair.map(part => decodeURIComponent(part.trim()))));
}

test('a worker has the name and version of the service, its own instance, its number and generation', () => {
  assert.deepEqual(read({}), {
    'service.name': 'shop',
    'service.version': '1.2.3',
    'service.instance.id': 'shop-abc:3000:2',
    'bosun.worker': '2',
    'bosun.generation': '4',
  });
});

test('in Kubernetes the pod is named', () => {
  assert.equal(read({ KUBERNETES_SERVICE_HOST: '10.0.0.1' })['k8s.pod.name'], 'shop-abc');
});

test('what the operator has set wins, and stays as it was written', () => {
  const given = 'service.name=other, service.instance.id=mine,team=a%2Cb';
  const { OTEL_RESOURCE_ATTRIBUTES } = resourceAttributes(INSTANCE, { OTEL_RESOURCE_ATTRIBUTES: given });
  assert.ok(OTEL_RESOURCE_ATTRIBUTES?.endsWith(`,${given}`));
  const { 'service.name': name, 'service.instance.id': id, team } = read({ OTEL_RESOURCE_ATTRIBUTES: given });
  assert.deepEqual([name, id, team], ['other', 'mine', 'a,b']);
  assert.equal(OTEL_RESOURCE_ATTRIBUTES?.match(/service\.name=/g)?.length, 1);
});

test('OTEL_SERVICE_NAME names the service alone', () => {
  assert.equal(read({ OTEL_SERVICE_NAME: 'other' })['service.name'], undefined);
});

test('values are encoded, and no longer than an SDK reads', () => {
  const { 'service.version': version, 'bosun.worker': worker } = read({}, { version: `1,2=3%é${'x'.repeat(300)}` });
  assert.equal(version, `1,2=3%é${'x'.repeat(300)}`.slice(0, 255));
  assert.equal(worker, '2');
});

test('half a character does not end the primary: in a package.json, or where a value is cut', () => {
  assert.equal(read({}, { version: '1\ud800' })['service.version'], '1\ufffd');
  assert.equal(read({}, { version: `${'x'.repeat(254)}😀` })['service.version'], `${'x'.repeat(254)}\ufffd`);
});

test('an empty variable counts as unset', () => {
  assert.equal(read({ OTEL_RESOURCE_ATTRIBUTES: ' ' })['service.name'], 'shop');
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { overlayFiles, overlayProblems } from '../src/init/overlay.ts';

const VALID = { name: 'shop', image: 'registry/shop:2.0.0', namespace: 'team' };
const KNOWN = ['redis', 'redis-sentinel', 'external-redis', 'hpa', 'keda', 'ingress'];
const problems = (settings: Partial<Parameters<typeof overlayProblems>[0]>) => overlayProblems({ ...VALID, ...settings }, KNOWN);

test('an overlay is about 20 lines, with Redis and the network policies unless others are chosen', () => {
  const { 'kustomization.yaml': text = '', ...others } = overlayFiles(VALID);
  const lines = text.trimEnd().split('\n');
  assert.ok(lines.length <= 20, `${lines.length} lines`);
  assert.match(text, /^components: \[\.\.\/\.\.\/components\/redis, \.\.\/\.\.\/components\/network-policy\]$/m);
  assert.deepEqual(Object.keys(others), ['network.yaml']);
  assert.deepEqual(Object.keys(overlayFiles({ ...VALID, components: ['redis'] })), ['kustomization.yaml']);
});

test('the port and the wait for replicas are settings of the overlay, each where it is needed', () => {
  const textOf = (settings: object) => String(overlayFiles({ ...VALID, ...settings })['kustomization.yaml']);
  const of = (settings: object) => /literals: \[(.*)\]/.exec(textOf(settings))?.[1];
  assert.equal(of({ port: 3000 }), 'LOG_LEVEL=info');
  assert.equal(of({ port: 8080 }), 'LOG_LEVEL=info, PORT=8080');
  assert.match(textOf({ port: 8080 }), /containerPort, value: 8080 /);
  assert.equal(of({ components: ['redis-sentinel'] }), 'LOG_LEVEL=info, SESSION_WAIT_REPLICAS=1');
  assert.doesNotMatch(textOf({ components: ['redis-sentinel'] }), /containerPort/);
});

test('components that patch what others add come after them, in whatever order they are named', () => {
  for (const components of [
    ['external-redis', 'ipv6', 'network-policy'],
    ['ipv6', 'network-policy', 'external-redis'],
  ]) {
    const { 'kustomization.yaml': text = '' } = overlayFiles({ ...VALID, components });
    const order = [...text.matchAll(/components\/([\w-]+)/g)].map(([, name]) => name);
    assert.equal(order[0], 'network-policy', order.join(' '));
    assert.equal(order.length, 3);
  }
});

test('the app’s image takes the place of the kit’s, or is the volume beside it', () => {
  const imagesOf = (settings: object) =>
    /^images: (.*)$/m.exec(String(overlayFiles({ ...VALID, ...settings })['kustomization.yaml']))?.[1];
  const digest = `sha256:${'a'.repeat(64)}`;
  assert.equal(imagesOf({}), '[{ name: koa-bosun, newName: "registry/shop", newTag: "2.0.0" }]');
  assert.equal(
    imagesOf({ image: `registry:5000/a/b:1@${digest}` }),
    `[{ name: koa-bosun, newName: "registry:5000/a/b", digest: ${digest} }]`,
  );
  assert.equal(imagesOf({ components: ['image-volume'] }), '[{ name: app-files, newName: "registry/shop", newTag: "2.0.0" }]');
});

test('names, images and ports that Kubernetes takes are taken', () => {
  for (const name of ['a', 'shop-2', 'a'.repeat(40)]) assert.deepEqual(problems({ name }), [], name);
  for (const namespace of ['1', 'team-a', 'a'.repeat(63)]) assert.deepEqual(problems({ namespace }), [], namespace);
  for (const image of ['shop:1', 'registry:5000/shop:1', 'r.example/a/b_c/d--e:v1.2-3', `shop@sha256:${'0'.repeat(64)}`])
    assert.deepEqual(problems({ image }), [], image);
  for (const host of ['shop.example.com', '*.example.com', 'localhost']) assert.deepEqual(problems({ host }), [], host);
  assert.deepEqual(problems({ port: 8080, components: ['redis', 'keda'] }), []);
  assert.deepEqual(problems({ name: 'a'.repeat(37), components: ['redis-sentinel'] }), []);
});

const REFUSED: [settings: object, says: RegExp][] = [
  [{ name: 'a'.repeat(38), components: ['redis-sentinel'] }, /^NAME must have at most 37 characters .* redis-sentinel, got 38$/],
  [{ name: 'none' }, /^NAME is the pods' SERVICE_NAME, too, and that must differ from "none"$/],
  ...['', 'Shop', '1shop', 'shop-', 'a_b', 'a.b', 'a'.repeat(41), '../x'].map((name): [object, RegExp] => [
    { name },
    /^NAME must be/,
  ]),
  ...['', 'Team', '-a', 'a-', 'a'.repeat(64)].map((namespace): [object, RegExp] => [{ namespace }, /^NAMESPACE must be/]),
  ...[
    '',
    'shop',
    'registry:5000/shop',
    'Shop:1',
    'shop:',
    'shop:1 ',
    'shop:-1',
    'shop@sha256:00',
    'a//b:1',
    `shop:${'1'.repeat(129)}`,
  ].map((image): [object, RegExp] => [{ image }, /^IMAGE must be a name with a tag or a digest, such as .*, got "/]),
  [{ image: 'shop:latest' }, /^IMAGE must have a tag that stays with its image, got "latest"/],
  ...[0, 80, 65_536, Number.NaN, 1024.5].map((port): [object, RegExp] => [{ port }, /^PORT must be a whole number/]),
  [{ port: 9090 }, /^PORT must differ/],
  [{ components: ['redi'] }, /^COMPONENTS must be among redis, .*, got "redi"/],
  [{ components: ['redis', 'external-redis'] }, /^COMPONENTS may have only one of .*, got redis and external-redis/],
  [{ components: ['hpa', 'keda'] }, /^COMPONENTS may have only one of hpa, hpa-utilization, keda/],
  ...['a_b', '.a', 'a..b', 'a b', '-a.example', 'a/*'].map((host): [object, RegExp] => [{ host }, /^HOST must be a host name/]),
];
test('everything else is refused, in one sentence', () => {
  for (const [settings, says] of REFUSED) {
    const found = problems(settings);
    assert.equal(found.length, 1, JSON.stringify(settings));
    assert.match(String(found[0]), says);
  }
  assert.equal(problems({ name: '', image: '', namespace: '' }).length, 3, 'all at once');
});

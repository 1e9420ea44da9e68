/**
 * Which address means all interfaces of a system, and where a server that listens on all of them can be opened.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openUrl } from '../src/config/open-url.ts';
import { hostAndPort, isIpv6Only } from '../src/config/parse.ts';

const LO4 = { family: 'IPv4', address: '127.0.0.1', internal: true } as const;
const LO6 = { family: 'IPv6', address: '::1', internal: true } as const;
const outer = (address: string) => ({ family: address.includes(':') ? 'IPv6' : 'IPv4', address, internal: false }) as const;

for (const [what, isOnly, addresses] of [
  ['IPv4', false, [LO4, outer('10.0.0.2')]],
  ['IPv4 and IPv6', false, [LO4, LO6, outer('10.0.0.2'), outer('fd00::2')]],
  ['IPv6 alone, beside an IPv4 loopback', true, [LO4, LO6, outer('fd00::2')]],
  [
    'IPv6 and a link-local IPv4 address, as pods of IPv6 clusters have it',
    true,
    [LO4, LO6, outer('169.254.172.2'), outer('2001:db8::2')],
  ],
  ['IPv6 alone, without an IPv4 loopback', true, [LO6, outer('fd00::2')]],
  ['no network but an IPv6 loopback', true, [LO6]],
  ['no network', false, [LO4, LO6]],
  ['a link-local IPv6 address alone, as a cable without a network gives it', false, [LO4, LO6, outer('fe80::1')]],
  ['nothing at all', false, []],
] as const)
  test(`a system with ${what} ${isOnly ? 'counts' : 'does not count'} as IPv6-only`, () => {
    assert.equal(isIpv6Only({ any: [...addresses] }), isOnly);
  });

test('an IPv6 address with a port is written in brackets', () => {
  assert.deepEqual(
    [hostAndPort('::', 80), hostAndPort('0.0.0.0', 80), hostAndPort('localhost', 80)],
    ['[::]:80', '0.0.0.0:80', 'localhost:80'],
  );
});

for (const [host, url] of [
  ['0.0.0.0', 'http://localhost:80'],
  ['::', 'http://localhost:80'],
  ['0', 'http://localhost:80'],
  ['127.0.0.1', 'http://127.0.0.1:80'],
  ['::1', 'http://[::1]:80'],
  ['fd00::2', 'http://[fd00::2]:80'],
  ['shop.local', 'http://shop.local:80'],
  ['unix:/run/app.sock', 'unix:/run/app.sock'],
] as const)
  test(`an app on HOST=${host} is logged with the URL ${url}`, () => {
    assert.equal(
      openUrl('http', host, 80, false, () => ({ any: [outer('10.0.0.2')] })),
      url,
    );
  });

test('in a pod of Kubernetes an app that listens on all addresses is logged with that of the pod', () => {
  const urlWith = (host: string, ...addresses: (typeof LO4 | typeof LO6 | ReturnType<typeof outer>)[]) =>
    openUrl('https', host, 443, true, () => ({ any: addresses }));
  assert.equal(urlWith('0.0.0.0', LO4, outer('fd00::2'), outer('10.0.0.2')), 'https://10.0.0.2:443');
  assert.equal(urlWith('::', LO6, outer('169.254.172.2'), outer('fe80::1'), outer('fd00::2')), 'https://[fd00::2]:443');
  assert.equal(urlWith('0.0.0.0', LO4), 'https://localhost:443', 'without a network');
  assert.equal(urlWith('127.0.0.1', LO4, outer('10.0.0.2')), 'https://127.0.0.1:443');
});

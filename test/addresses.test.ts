/**
 * Which address means all interfaces of a system.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
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

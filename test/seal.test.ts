import assert from 'node:assert/strict';
import { createHmac, hkdfSync } from 'node:crypto';
import { describe, test } from 'node:test';
import { Seal } from '../src/state/session-keys.ts';

const seal = new Seal(['new', 'old']);

describe('a message between pods, with SESSION_KEYS', () => {
  test('a signed message is accepted with any of the keys', () => {
    for (const text of ['', 'a', '{"a":"\\n"}', 'ü\n🔑'.repeat(1000)]) {
      assert.equal(seal.open('news', seal.sign('news', text)), text);
      assert.equal(new Seal(['newest', 'new']).open('news', seal.sign('news', text)), text, 'a key is added');
      assert.equal(seal.open('news', new Seal(['old']).sign('news', text)), text, 'a pod that has only the old one');
      assert.equal(new Seal(['old']).open('news', seal.sign('news', text)), undefined, 'the newest signs');
    }
  });

  test('a signed message is dropped if it or its place is changed', () => {
    const sealed = seal.sign('fleet', '{"a":1}');
    for (let at = 0; at < sealed.length - 1; at++) {
      const other = sealed.slice(0, at) + String.fromCharCode(sealed.charCodeAt(at) ^ 1) + sealed.slice(at + 1);
      assert.equal(seal.open('fleet', other), undefined, other);
    }
    assert.equal(seal.open('broadcast', sealed), undefined);
    assert.equal(seal.open('flee', seal.sign('fleet', '')), undefined);
    for (const forged of [
      '',
      '{"a":1}',
      '\n',
      `{"a":1}\n${'A'.repeat(43)}`,
      `{"a":1}\n${'!'.repeat(43)}`,
      sealed.slice(1),
      `${sealed} `,
    ])
      assert.equal(seal.open('fleet', forged), undefined, forged);
    // What is moved from the label into the text.
    assert.equal(seal.open('a', new Seal(['new']).sign('ab', 'c')?.replace(/^/, 'b')), undefined);
  });

  test('a message is signed with a key derived from the cookie key, not with that key', () => {
    const mac = seal.sign('fleet', 'x').split('\n')[1];
    assert.notEqual(mac, createHmac('sha256', 'new').update('5:fleetx').digest('base64url'));
    const derived = Buffer.from(hkdfSync('sha256', 'new', '', 'koa-bosun messages v1', 32));
    assert.equal(mac, createHmac('sha256', derived).update('5:fleetx').digest('base64url'));
  });

  test('a message is unchanged without SESSION_KEYS', () => {
    const open = new Seal(undefined);
    assert.equal(open.sign('fleet', 'x'), 'x');
    assert.equal(open.open('fleet', 'x'), 'x');
    assert.equal(open.isSigned, false);
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { visit, withBrowser } from '../browser.ts';
import { startKit } from './kit.ts';

test('the demo page opens in a real browser, and sends no request to another host', withBrowser, async () => {
  const kit = await startKit();
  const { url } = await kit.ready();
  const { page, problems } = await visit(`${url}/`, { width: 1280, height: 800 });
  assert.match(await page.innerText('body'), /koa-bosun|worker/i);
  assert.deepEqual(problems, []);
});

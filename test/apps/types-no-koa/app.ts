import express = require('express');
import type { App, Kit } from 'koa-bosun';

const app: App = (kit: Kit) => ({ use: () => undefined, callback: () => express().get('/', (_, res) => res.json(kit.config.port)) });
export = app;
function wrong(kit: Kit): void {
  // @ts-expect-error: it is read-only, and no string: the types are there
  kit.workerId = 'one';
}

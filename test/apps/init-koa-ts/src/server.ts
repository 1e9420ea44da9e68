import type { Kit } from 'koa-bosun';
import { app } from './app.js';

export default (kit: Kit) => app(kit.session);

// The benchmark's app as Watt wants it.
import app from '../../apps/koa.mjs';

export const create = async () => app;

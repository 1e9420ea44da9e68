import type { App } from 'koa-bosun';

const app: App = (_request, response) => response.end('listener');
export default app;

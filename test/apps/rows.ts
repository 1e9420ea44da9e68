/**
 * The apps of `make test-apps`, one row each. The table of docs/guide/adopt.md shows the frameworks. How to add one: CONTRIBUTING.md.
 */

/** How the kit gets at the app, and the words of the guide for it. */
export const WAYS = {
  listens: 'it listens: its server gets the connections',
  /** With a warning. */
  'ignores PORT': 'it listens on a port of its own: it is served on `PORT`',
  exports: 'it exports an app: the kit serves it',
} as const;

export interface App {
  /** Unique; as the table of the guide names it. */
  name: string;
  folder: string;
  /** What follows `bosun start`: what one runs with `node`. */
  start: string;
  way: keyof typeof WAYS;
  /** What is requested; default `/`. */
  path?: string;
  headers?: Record<string, string>;
  /** Default 200. */
  status?: number;
  body: RegExp;
  /** What its hooks write to stderr when the worker has given its last answer. */
  prints?: RegExp;
  /** The port that the app listens on; PORT is unset then. */
  ownPort?: number;
  /** What the guide adds. */
  know?: string;
}

// biome-ignore format: one row, one line
const FRAMEWORKS: App[] = [
  { name: 'Koa 3', folder: 'koa-3', start: 'server.js', way: 'ignores PORT', body: /^Hello Koa$/ },
  { name: 'Koa 2', folder: 'koa-2', start: 'server.js', way: 'ignores PORT', body: /^Hello Koa$/ },
  { name: 'Express', folder: 'express', start: 'server.js', way: 'ignores PORT', body: /^Hello World$/ },
  { name: 'Fastify', folder: 'fastify', start: 'server.js', way: 'ignores PORT', body: /^\{"hello":"world"\}$/ },
  { name: 'Fastify with hooks', folder: 'fastify', start: 'exported.cjs', way: 'exports', body: /^\{"closed":false\}$/, prints: /onClose after onListen: true/ },
  { name: 'Hapi with extensions', folder: 'hapi', start: 'exported.js', way: 'exports', body: /^\{"closed":false\}$/, prints: /onPostStop after onPostStart: true/ },
  { name: 'Hono with @hono/node-server', folder: 'hono', start: 'server.ts', way: 'ignores PORT', body: /^Hono meets Node.js$/ },
  { name: 'h3 v1', folder: 'h3-1', start: 'server.js', way: 'listens', body: /^h3 version 1$/ },
  { name: 'h3 v2 with `serve`', folder: 'h3-2', start: 'server.mjs', way: 'ignores PORT', body: /^h3 version 2$/ },
  { name: 'h3 v2', folder: 'h3-2', start: 'exported.mjs', way: 'exports', body: /^h3 version 2$/ },
  { name: 'Polka', folder: 'polka', start: 'server.js', way: 'ignores PORT', path: '/users/7', body: /^User: 7$/ },
  { name: 'NestJS, built', folder: 'nestjs', start: 'dist/main.js', way: 'listens', body: /^Hello World!$/ },
  { name: 'NestJS, TypeScript', folder: 'nestjs', start: 'src/main.ts', way: 'listens', body: /^Hello World!$/,
    know: 'for its decorators the project has @swc-node/register or ts-node' },
  { name: 'Next.js, `output: "standalone"`', folder: 'next', start: '.next/standalone/server.js', way: 'listens', body: /Hello World!/ },
  { name: 'Nitro 3', folder: 'nitro', start: '.output/server/index.mjs', way: 'listens', path: '/hello', body: /^Hello from Nitro$/ },
  { name: 'Nitro 2, as Nuxt builds', folder: 'nitropack', start: '.output/server/index.mjs', way: 'listens', path: '/hello', body: /^Hello from Nitro$/ },
  { name: 'Apollo Server on Koa', folder: 'apollo-koa', start: 'server.mjs', way: 'ignores PORT',
    path: '/?query=%7Bhello%7D', headers: { 'Apollo-Require-Preflight': 'true' }, body: /^\{"data":\{"hello":"world"\}\}/ },
  { name: 'GraphQL Yoga', folder: 'graphql-yoga', start: 'server.ts', way: 'ignores PORT',
    path: '/graphql?query=%7Bhello%7D', body: /^\{"data":\{"hello":"Hello from Yoga!"\}\}/ },
  { name: 'json-server in a module', folder: 'json-server', start: 'server.js', way: 'ignores PORT', path: '/posts', body: /"title": "json-server"/ },
  { name: 'json-server', folder: 'json-server', start: 'node_modules/json-server/lib/cli/bin.js -- db.json', way: 'ignores PORT',
    path: '/posts', body: /"title": "json-server"/, know: 'each worker has a db.json of its own in memory' },
  { name: 'itty-router', folder: 'itty-router', start: 'server.js', way: 'exports', path: '/hello/you', body: /^"Hello, you!"$/ },
  { name: 'Socket.IO on Express', folder: 'websockets', start: 'socket-io.js', way: 'ignores PORT', body: /^sockets of socket.io$/,
    know: 'its long polls need `NODE_CLUSTER_STICKY=cookie`, or the WebSocket transport alone ([WebSockets](websockets.md))' },
  { name: 'ws on Express', folder: 'websockets', start: 'ws.js', way: 'listens', body: /^sockets of ws$/ },
  { name: 'TypeScript with tsx', folder: 'typescript-tsx', start: 'src/server.ts', way: 'listens',
    path: '/parcels/7', body: /^\{"id":"7","state":"sent"\}$/, know: 'enums, parameter properties, `paths`, imports without extension' },
  { name: 'TypeScript with @swc-node/register', folder: 'typescript-swc', start: 'src/server.ts', way: 'listens',
    path: '/parcels/7', body: /^\{"id":"7","state":"sent","at":"String"\}$/, know: 'decorators and their metadata too' },
  { name: 'TypeScript with ts-node', folder: 'typescript-ts-node', start: 'src/server.ts', way: 'listens',
    path: '/parcels/7', body: /^\{"id":"7","state":"sent","at":"String"\}$/, know: 'decorators too; a type error ends the start' },
];

/** Servers of Node.js without packages. */
// biome-ignore format: one row, one line
const NODE: App[] = [
  { name: 'a port in the code', folder: 'node', start: 'hard-coded.mjs', way: 'ignores PORT', body: /^hard-coded$/ },
  { name: 'a port in the code, without PORT', folder: 'node', start: 'hard-coded.mjs', way: 'listens', ownPort: 38471, body: /^hard-coded$/ },
  { name: 'two ports', folder: 'node', start: 'two-ports.cjs', way: 'listens', body: /^the app$/ },
  { name: 'workers of its own', folder: 'node', start: 'own-workers.mjs', way: 'ignores PORT', body: /^one of its workers$/ },
  { name: 'a server after an asynchronous connect', folder: 'node', start: 'connects-first.mjs', way: 'listens', body: /^connected$/ },
  { name: 'a class that starts itself', folder: 'node', start: 'class.mjs', way: 'listens', body: /^a class$/ },
  { name: 'an exported class with callback()', folder: 'node', start: 'class-callback.mjs', way: 'exports', body: /^callback of a class$/ },
  { name: 'an exported http.Server', folder: 'node', start: 'exported-server.mjs', way: 'exports', body: /^exported$/ },
  { name: '{ app }, which listens if it is main', folder: 'node', start: 'app-property.cjs', way: 'exports', body: /^a property$/ },
  { name: 'require.main === module', folder: 'node', start: 'require-main.cjs', way: 'listens', body: /^main$/ },
  { name: 'import.meta.main', folder: 'node', start: 'import-meta-main.mjs', way: 'listens', body: /^main$/ },
  { name: 'process.argv[1] is the module', folder: 'node', start: 'argv-main.mjs', way: 'listens', body: /^main$/ },
  { name: 'signal handlers that exit', folder: 'node', start: 'exits-on-sigterm.mjs', way: 'listens', body: /^handles signals$/ },
  { name: 'the main of a package.json', folder: 'node', start: '', way: 'listens', body: /^the main$/ },
  { name: 'a folder', folder: 'node', start: 'folder', way: 'listens', body: /^a folder$/ },
];

/** The forms of `server.listen`, by their names in node/listen.mjs, and which of them name PORT. */
const LISTENS: Record<string, App['way']> = {
  port: 'listens',
  text: 'listens',
  'port-callback': 'listens',
  'port-host': 'listens',
  'port-host-backlog': 'listens',
  options: 'listens',
  'options-host': 'listens',
  'options-exclusive': 'listens',
  'options-signal': 'listens',
  'options-ipv6': 'listens',
};

/** How Koa apps are written since the years of Koa 2. */
// biome-ignore format: one row, one line
const KOA_2: App[] = [
  { name: 'Koa 2: !module.parent', folder: 'koa-2', start: 'module-parent.js', way: 'exports', body: /^module.parent$/ },
  { name: 'Koa 2: listens unconditionally', folder: 'koa-2', start: 'listens.js', way: 'ignores PORT', body: /^listens$/ },
  { name: 'Koa 2: forms, router and templates', folder: 'koa-2', start: 'forms.js', way: 'exports', body: /<h1>Notes: 0<\/h1>/ },
  { name: 'Koa 2: session and CSRF token', folder: 'koa-2', start: 'csrf.js', way: 'exports', path: '/token', body: /^\S{20,}$/ },
  { name: 'Koa 2: basic authentication', folder: 'koa-2', start: 'basic-auth.js', way: 'exports', status: 401, body: /^who are you\?$/ },
  { name: 'Koa 2: errors of its own', folder: 'koa-2', start: 'errors.js', way: 'exports', status: 500, body: /^it broke$/ },
  { name: 'Koa 2: streams', folder: 'koa-2', start: 'streams.js', way: 'exports', body: /"id":1[\s\S]*"id":2/ },
  { name: 'Koa 2: virtual hosts', folder: 'koa-2', start: 'vhosts.js', way: 'exports', body: /^the host 127.0.0.1$/ },
  { name: 'Koa 2: static files and uploads', folder: 'koa-2', start: 'static.js', way: 'ignores PORT', path: '/index.html', body: /<p>a static page<\/p>/ },
];

export const APPS: App[] = [
  ...FRAMEWORKS,
  ...NODE,
  ...Object.entries(LISTENS).map(([form, way]) => ({
    name: `server.listen: ${form}`,
    folder: 'node',
    start: `listen.mjs -- ${form}`,
    way,
    body: new RegExp(`^${form}$`),
  })),
  ...KOA_2,
];

/** The rows of the table of docs/guide/adopt.md. */
export const GUIDE_ROWS = FRAMEWORKS.map(({ name, start, way, know = '' }) => [name, `\`bosun start ${start}\``, WAYS[way], know]);

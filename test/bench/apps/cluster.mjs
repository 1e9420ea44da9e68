// The same on plain node:cluster, two workers.
import cluster from 'node:cluster';

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
  process.on('SIGTERM', () => process.exit(0));
} else {
  process.on('disconnect', () => process.exit(0));
  const { default: app } = await import('./koa.mjs');
  app.listen(Number(process.env.PORT), '127.0.0.1');
}

// The benchmark's app under throng, two workers.
import throng from 'throng';

throng({
  count: 2,
  worker: async () => {
    const { default: app } = await import('../apps/koa.mjs');
    app.listen(Number(process.env.PORT), '127.0.0.1');
  },
});

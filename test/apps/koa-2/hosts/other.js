module.exports = [
  ctx => {
    ctx.body = 'another host';
  },
];

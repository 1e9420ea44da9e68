export default { srcDir: 'server' };

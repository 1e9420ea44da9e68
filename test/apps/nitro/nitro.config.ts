export default { serverDir: 'server' };

export default eventHandler(() => 'Hello from Nitro');

// What all clients are read by.

export async function all(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

export async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? error.status_code ?? null, message: error.message };
  }
  return null;
}

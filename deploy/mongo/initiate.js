// Makes a replica set of one node where none is yet, and waits until it takes writes. Run by deploy/compose.yaml.
try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongo:27017" }] });
}
const deadline = Date.now() + 30_000;
while (!db.hello().isWritablePrimary) {
  if (Date.now() > deadline) throw new Error("the replica set rs0 has no primary after 30 s; rs.status() tells why");
  sleep(100);
}
print("the replica set rs0 takes writes");

"""What mypy must refuse: each line that ends in `# wrong`, and no other."""

from __future__ import annotations

from shmmap import ShmMap

m = ShmMap("sessions")
ShmMap(5)  # wrong
ShmMap("sessions", size=[1])  # wrong
ShmMap("sessions", colour="red")  # wrong
size: int = m.name  # wrong
left: float = m.ttl("a")  # wrong
m.add("a")  # wrong
m.incr("n", 1, 2, 3, 4)  # wrong
print(m.stats().nothing)  # wrong
answer: str = m.incr("n")  # wrong
m.no_such_method()  # wrong

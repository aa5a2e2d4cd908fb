"""Methods that say in words what has changed, without a direction and without a judge; `bench verbal` scores them."""

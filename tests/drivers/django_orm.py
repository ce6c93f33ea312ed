"""Django: see README.md. Writes the models of a schema that exists, and works with them."""

import io
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
        }
    },
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.db import DatabaseError, connection, models, transaction  # noqa: E402

out = io.StringIO()
call_command("inspectdb", "--include-views", "--include-partitions", stdout=out)
print("connected", connection.vendor)
for line in out.getvalue().splitlines():
    print("binary", line)

# The models that have just been written, in an application of their own.
module = type(sys)("shop")
sys.modules["shop"] = module
module.__dict__["__name__"] = "shop"
written = out.getvalue().replace("class Meta:\n", "class Meta:\n        app_label = 'shop'\n")
exec(compile(written, "models.py", "exec"), module.__dict__)
Products, Parts, Orders, People = module.Products, module.Parts, module.Orders, module.People

for product in Products.objects.order_by("id")[:3]:
    print("prepared", product.name, product.price)
print("prepared", Orders.objects.filter(status="open").aggregate(models.Max("id")))
print("prepared", Orders.objects.select_related("customer").get(id=5).customer.id)
print("prepared", sum(product.id for product in Products.objects.all().iterator(chunk_size=7)))

try:
    with transaction.atomic():
        Parts.objects.create(id=1000, name="inside")
        print("transaction", Parts.objects.count())
        try:
            with transaction.atomic():
                Parts.objects.create(id=1000, name="again")
        except DatabaseError as error:
            print("transaction", error.__cause__.pgcode)
        raise KeyError
except KeyError:
    print("transaction", Parts.objects.count())
Parts.objects.bulk_create(Parts(id=number, name=str(number)) for number in range(1, 40))
print("copy", Parts.objects.filter(id__lt=10).update(name="ten"), Parts.objects.filter(id__gt=0).delete()[0])

try:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE parts")
    print("refused none")
except DatabaseError as error:
    print("refused", error.__cause__.pgcode)
print("after", Products.objects.count())

person = People.objects.order_by("id").first()
print("masked", *(repr(getattr(person, field.attname)) for field in People._meta.fields))
print("done")

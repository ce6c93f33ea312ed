"""Reads a row, changes one field and saves it, as psycopg, Django and SQLAlchemy do: see README.md."""

import os
import sys

ID = 7


def psycopg_raw():
    import psycopg

    session = psycopg.connect("", autocommit=True)
    row = session.execute("SELECT id, name, email, phone, ssn FROM customers WHERE id = %s", (ID,)).fetchone()

    def save_all():
        session.execute(
            "UPDATE customers SET name = %s, email = %s, phone = %s, ssn = %s WHERE id = %s", (*row[1:], row[0])
        )

    def save_changed():
        session.execute("UPDATE customers SET name = %s WHERE id = %s", ("changed", ID))

    return psycopg.Error, save_all, save_changed


def django():
    import django
    from django.conf import settings

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
    )
    django.setup()
    from django.db import DatabaseError, models

    class Customer(models.Model):
        name = models.TextField()
        email = models.TextField(null=True)
        phone = models.TextField(null=True)
        ssn = models.CharField(max_length=11, null=True)
        notes = models.TextField(null=True)
        created_at = models.DateTimeField()

        class Meta:
            app_label = "shop"
            db_table = "customers"
            managed = False

    customer = Customer.objects.get(pk=ID)
    customer.name = "changed"
    return DatabaseError, customer.save, lambda: customer.save(update_fields=["name"])


def sqlalchemy():
    from sqlalchemy import MetaData, Table, create_engine, exc, update
    from sqlalchemy.ext.automap import automap_base
    from sqlalchemy.orm import Session

    engine = create_engine(
        "postgresql+psycopg2://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)
    )
    metadata = MetaData()
    table = Table("customers", metadata, autoload_with=engine)
    base = automap_base(metadata=metadata)
    base.prepare()
    customer = base.classes.customers
    with Session(engine) as session:
        found = session.get(customer, ID)
        row = {column.name: getattr(found, column.name) for column in table.columns}
    row["name"] = "changed"

    def save_all():
        with engine.begin() as connection:
            connection.execute(update(table).where(table.c.id == ID).values(**row))

    def save_changed():
        with Session(engine) as session:
            session.get(customer, ID).name = "changed"
            session.commit()

    return exc.DBAPIError, save_all, save_changed


def main():
    error, save_all, save_changed = {"psycopg": psycopg_raw, "django": django, "sqlalchemy": sqlalchemy}[sys.argv[1]]()
    try:
        save_all()
        print("all saved")
    except error as refusal:
        cause = getattr(refusal, "orig", None) or refusal.__cause__ or refusal
        print("refused", getattr(cause, "sqlstate", None) or cause.pgcode, str(cause).replace("\n", " "))
    save_changed()
    print("changed saved")


main()

# Reads a row, changes one field and saves it, as ActiveRecord does: see README.md.

require "active_record"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], database: ENV["PGDATABASE"],
  username: ENV["PGUSER"], password: ENV["PGPASSWORD"]
)

class Customer < ActiveRecord::Base
end

def attempt(name)
  yield
  puts "#{name} saved"
rescue ActiveRecord::StatementInvalid => e
  puts "refused #{e.cause.result.error_field(PG::Result::PG_DIAG_SQLSTATE)} #{e.message.tr("\n", " ")}"
end

customer = Customer.find(7)
customer.name = "changed"
Customer.partial_writes = false
attempt("all") { customer.save! }
Customer.partial_writes = true
attempt("changed") { customer.save! }
